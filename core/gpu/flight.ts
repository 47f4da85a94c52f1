// How much an adapter's process is asked at once: requests in flight are bounded in number and bytes, and so are its answers.
// What is beyond waits in one line, first come, first served, however small it is; whoever gives up leaves the line at once.
// A line that is full takes nobody. Pure bookkeeping: no socket, no clock.

export interface FlightBounds {
  readonly framesMax: number;
  readonly bytesMax: number;
  readonly lineMax: number;
}

export interface Flight {
  readonly frames: number;
  readonly bytes: number;
  readonly waiting: number;
  /** Calls `begin` at once or in turn. Gives what leaves the line, false where it has begun; undefined: the line is full. */
  enter(bytes: number, begin: () => void): (() => boolean) | undefined;
  /** A request that had begun is answered. */
  leave(bytes: number): void;
}

interface Waiter {
  readonly bytes: number;
  begin(): void;
}

export function createFlight({ framesMax, bytesMax, lineMax }: FlightBounds): Flight {
  const line = new Set<Waiter>();
  let frames = 0;
  let bytes = 0;

  const hasRoom = (more: number) => frames < framesMax && bytes + more <= bytesMax;
  function admit(waiter: Waiter): void {
    frames++;
    bytes += waiter.bytes;
    waiter.begin();
  }
  function advance(): void {
    for (const waiter of line) {
      if (!hasRoom(waiter.bytes)) return;
      line.delete(waiter);
      admit(waiter);
    }
  }

  return {
    get frames() {
      return frames;
    },
    get bytes() {
      return bytes;
    },
    get waiting() {
      return line.size;
    },
    enter(size, begin) {
      if (size > bytesMax) throw new Error(`a request of ${size} bytes; ${bytesMax} are in flight at most`);
      const waiter = { bytes: size, begin };
      if (line.size === 0 && hasRoom(size)) admit(waiter);
      else if (line.size >= lineMax) return undefined;
      else line.add(waiter);
      return () => {
        const left = line.delete(waiter);
        if (left) advance(); // who stood behind may fit
        return left;
      };
    },
    leave(size) {
      frames--;
      bytes -= size;
      advance();
    },
  };
}
