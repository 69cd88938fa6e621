/**
 * Which topics a pattern reaches: the rules of the hub (protocol/trunkline_protocol/topics.py).
 */

/** Whether something to subscribe to has wildcards. */
export function isPattern(topic: string): boolean {
  return /[*>]/u.test(topic);
}

/** Whether a valid pattern reaches a valid topic, both cut at their dots. */
export function matches(pattern: readonly string[], topic: readonly string[]): boolean {
  const [first] = pattern;
  if ((first === "*" || first === ">") && topic[0] === "system") {
    return false;
  }
  const fits = pattern.at(-1) === ">" ? topic.length >= pattern.length : topic.length === pattern.length;
  return fits && pattern.every((token, index) => token === "*" || token === ">" || token === topic[index]);
}
