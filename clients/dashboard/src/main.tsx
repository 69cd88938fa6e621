/**
 * The page: one connection, its feeds, and what they look like.
 */
import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./style/base.css";
import "./style/parts.css";
import "./style/views.css";
import { App } from "./app.tsx";
import { feed } from "./hub/feeds.ts";
import { keepConnected } from "./hub/link.ts";

const place = document.querySelector("#app");
if (place !== null) {
  place.replaceChildren();
  render(<App />, place);
}
void keepConnected(feed);
