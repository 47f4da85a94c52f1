// Typed arrays that grow: twice as long, or as long as is needed, with what they held. Pure.

type Column =
  | Uint8Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>;

/** At least `length` long. */
export function grown<T extends Column>(column: T, length: number): T {
  const Kind = column.constructor as new (length: number) => T;
  const longer = new Kind(Math.max(length, column.length * 2));
  longer.set(column);
  return longer;
}
