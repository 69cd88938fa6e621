import { isHubError } from "trunkline";

/** What went wrong, for who reads the page: what it is, and what to do. */
export function inWords(error: unknown): string {
  if (!isHubError(error)) return `This page has a fault: ${String(error)}`;
  switch (error.kind) {
    case "rpc":
      return error.code === 404 ? error.message : `The hub refused: ${error.message}.`;
    case "timeout":
      return "There was no answer in time. Ask again.";
    case "overloaded":
      return `Too many are asking. Try again in ${Math.ceil((error.retryAfterMs ?? 1000) / 1000)} s.`;
    case "disconnected":
      return "The connection was lost before the answer was complete. Ask again.";
    case "cancelled":
      return "Somebody else stopped this answer.";
    default:
      return error.message;
  }
}
