import { scenario } from "../../../scenario.js";

export const dynamic = "force-dynamic";

/** The same on the server. */
export async function GET(request) {
  return Response.json(await scenario(Object.fromEntries(new URL(request.url).searchParams)));
}
