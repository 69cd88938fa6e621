// Fan-out with `ws`, as small as it can be: what a publisher sends goes to every subscriber of the topic in the path.
import { WebSocketServer } from "ws";

const topics = new Map();
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });

server.on("connection", (socket, request) => {
  const [, role, topic] = request.url.split("/");
  if (!topics.has(topic)) topics.set(topic, new Set());
  const subscribers = topics.get(topic);
  if (role === "subscribe") {
    subscribers.add(socket);
    socket.on("close", () => subscribers.delete(socket));
  } else {
    socket.on("message", (data) => {
      for (const subscriber of subscribers) subscriber.send(data, { binary: false });
    });
  }
});
server.on("listening", () => console.log(`listening on ws://127.0.0.1:${server.address().port}`));
