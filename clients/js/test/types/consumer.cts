/** Type checks as a CommonJS user sees the built package. */
import trunkline = require("trunkline");

export const close = async (hub: trunkline.Hub): Promise<number> => {
  await hub.close(trunkline.ERROR_CODES.CANCELLED === -32800 ? 1000 : 3000);
  return (await hub.closed).code;
};
