/**
 * Names of members that only this package's own modules use. The build shortens them, as it does the names of variables:
 * users pay for every letter. Nothing of the public API, of the wire or of the platform may stand here;
 * test/internal-names.test.ts looks after that, and all tests run with the short names.
 */
const NAMES = `
  acknowledge admit again ask atHub awake backOff came current cutOff dead deliver dial endAll ended feed findWebSocket frames
  giveUp goOn grant handler hangUp hasKey head headOf heard interest isAckDue isFinal isForOneHub isEnding isIdempotent isLast isLasting isNumbered
  isOpen isWritten keepAlive later leave leaving limitFor longest lookUp loseSession lost maxMs mayWait minMs notOpened onWrite
  opened packed policy probe readers reasonOf refused replied room served sink started
  states substitute takeAck takeAll takeOut tell tokens told tooLarge ttlMs units unread unregistering unwatch wakeAll watch
  withdraw
`;

export const INTERNAL_NAMES = NAMES.trim().split(/\s+/u);

/** esbuild's option `mangleProps`. */
// oxlint-disable-next-line require-unicode-regexp -- Go has no such flag
export const MANGLED = new RegExp(`^(?:${INTERNAL_NAMES.join("|")})$`);
