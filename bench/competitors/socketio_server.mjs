// Fan-out with Socket.IO: one room a topic, WebSocket transport only.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });

io.on("connection", (socket) => {
  socket.on("subscribe", (topic, done) => {
    socket.join(topic);
    done();
  });
  socket.on("publish", (topic, data) => io.to(topic).emit("event", data));
});
http.listen(0, "127.0.0.1", () => console.log(`listening on ws://127.0.0.1:${http.address().port}`));
