// JSON that may not be JSON. Pure.

/** The value, or undefined where the text is none. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const DEPTH_MAX = 32;
/** Names under which JavaScript keeps what objects are made from: whoever copies such a value changes all objects. */
const OF_PROTOTYPES = ['__proto__', 'constructor', 'prototype'];

/** What a value holds that no caller has a use for, in words. */
export function faultOf(value: unknown, depth = 0): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  if (depth === DEPTH_MAX) return `It is nested more than ${DEPTH_MAX} levels deep`;
  if (!Array.isArray(value)) {
    const name = OF_PROTOTYPES.find((each) => Object.hasOwn(value, each));
    if (name !== undefined) return `It has the name ${name}`;
  }
  for (const each of Array.isArray(value) ? value : Object.values(value)) {
    const fault = faultOf(each, depth + 1);
    if (fault !== undefined) return fault;
  }
  return undefined;
}
