"use client";

import { useEffect, useState } from "react";
import { scenario } from "../scenario.js";

/** Shows what the scenario saw, at the place that the address names. */
export default function Page() {
  const [said, setSaid] = useState("");
  useEffect(() => {
    const place = Object.fromEntries(new URLSearchParams(location.search));
    scenario(place).then((all) => setSaid(JSON.stringify(all)), (error) => setSaid(String(error)));
  }, []);
  return <pre id="said">{said}</pre>;
}
