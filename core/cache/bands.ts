// Priorities in three bands: how an entry's idleness counts, when one of several has to leave. Pure.

export const BANDS = [
  { name: '0-33', above: -1, idleness: 4 },
  { name: '34-66', above: 33, idleness: 1 },
  { name: '67-100', above: 66, idleness: 1 / 4 },
] as const;

export const bandOf = (priority: number): number => BANDS.findLastIndex(({ above }) => priority > above);
