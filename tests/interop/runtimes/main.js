// `node main.js URL TOKEN NAME`, and the same in a thread, in Bun and in Deno.
import process from "node:process";
import { scenario } from "./scenario.js";

const [url = "", token = "", name = ""] = process.argv.slice(2);
console.log(JSON.stringify(await scenario({ url, token, name })));
