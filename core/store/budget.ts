// How many bytes the store has on disk, and how many it may have. What is to be written is counted before, and what goes after
// it has gone: so there is never more than is counted here. A part of the budget is no room for newcomers: removals are
// written into one half of it, and what is moved together (compaction) into the other, or nothing could be made to leave.
// Beside what is counted byte by byte stands an allowance for the journal, by the number of records. Bookkeeping only.

/** What is to be written, and so how far it may go. */
export type Purpose = 'newcomer' | 'removal' | 'tidying';

export interface BudgetOptions {
  /** Infinite: no budget, and all is only counted. */
  readonly bytesMax: number;
  /** No room for newcomers. */
  readonly reserveBytes: number;
  /** What is not counted one by one: the journal of so many records as there are, the reserve for a full disk. */
  readonly allowance: () => number;
}

export interface Budget {
  readonly bytesMax: number;
  /** What is on disk, or about to be. */
  readonly bytes: number;
  /** How much has to go before a newcomer of so many bytes can come; none or less: there is room. */
  lacks(bytes: number): number;
  /** Counts what is about to be written; false, and nothing counted, if there is no room. */
  take(bytes: number, purpose: Purpose): boolean;
  /** For what is moved together. */
  readonly tidyingBytes: number;
  /** Counting begins: so many are there. */
  found(bytes: number): void;
  /** What somebody has taken room for is there now. */
  add(bytes: number): void;
  /** Gone from the disk. */
  give(bytes: number): void;
}

export function createBudget({ bytesMax, reserveBytes, allowance }: BudgetOptions): Budget {
  const limits = { newcomer: bytesMax - reserveBytes, removal: bytesMax - reserveBytes / 2, tidying: bytesMax };
  let counted = 0;
  return {
    bytesMax,
    get bytes() {
      return counted + allowance();
    },
    lacks: (bytes) => counted + allowance() + bytes - limits.newcomer,
    take(bytes, purpose) {
      if (counted + allowance() + bytes > limits[purpose]) return false;
      counted += bytes;
      return true;
    },
    get tidyingBytes() {
      return limits.tidying - counted - allowance();
    },
    found(bytes) {
      counted = bytes;
    },
    add(bytes) {
      counted += bytes;
    },
    give(bytes) {
      counted -= bytes;
    },
  };
}
