// What an app of React Native does; whoever runs the bundle calls it.
import { scenario } from "./scenario.js";

globalThis.run = scenario;
