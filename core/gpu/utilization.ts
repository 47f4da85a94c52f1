// How busy something was lately: busy time over wall time in a window that slides. Fed with a counter of busy milliseconds
// that only grows; keeps a fixed number of samples, and knows no clock of its own. Pure.

export interface Utilization {
  /** To be called every so often: what the window slides over. */
  sample(atMs: number, busyMs: number): void;
  /** 0 to 1, from the oldest sample to now. */
  share(atMs: number, busyMs: number): number;
}

export function createUtilization(samples: number, atMs: number): Utilization {
  const ring = [{ atMs, busyMs: 0 }];
  return {
    sample(atMs, busyMs) {
      if (ring.push({ atMs, busyMs }) > samples) ring.shift();
    },
    share(atMs, busyMs) {
      const [oldest] = ring;
      const wall = atMs - (oldest?.atMs ?? atMs);
      return wall > 0 ? Math.min(1, Math.max(0, (busyMs - (oldest?.busyMs ?? 0)) / wall)) : 0;
    },
  };
}
