// Asks a question twice: once for the whole answer, once for the answer as it grows.
//   node examples/rag.mjs "What is a trunk line?"
import { connect } from "trunkline";

const query = process.argv[2] ?? "What is a trunk line?";
const token = process.env.TRUNKLINE_TOKEN;
const hub = await connect(process.env.TRUNKLINE_URL ?? "ws://127.0.0.1:8765/ws", { token });

/** @type {{ answer: string }} */
const { answer } = await hub.call("rag.execute", { technique: "basic", query });
console.log(answer);

/** @type {AsyncIterable<{ type: string, data: { text: string } }>} */
const chunks = hub.stream("rag.stream", { technique: "basic", query });
for await (const { type, data } of chunks) {
  if (type === "partial_answer") {
    process.stdout.write(data.text);
  }
}
process.stdout.write("\n");
await hub.close();
