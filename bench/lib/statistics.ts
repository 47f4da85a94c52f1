// Percentiles of a handful of measured times. A benchmark that is disturbed from time to time is told by its median and
// quartiles; means and minima are not offered.

/** Between the two nearest samples, in proportion; `share` is 0 to 1. */
export function percentile(samples: readonly number[], share: number): number {
  if (samples.length === 0) throw new RangeError('There is no percentile of no samples.');
  const sorted = [...samples].sort((a, b) => a - b);
  const place = (sorted.length - 1) * share;
  const below = sorted[Math.floor(place)] ?? Number.NaN;
  const above = sorted[Math.ceil(place)] ?? Number.NaN;
  return below + (above - below) * (place - Math.floor(place));
}

export const median = (samples: readonly number[]): number => percentile(samples, 0.5);
