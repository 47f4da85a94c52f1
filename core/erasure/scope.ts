// What is to be erased, as every place is told, and what a place is: something that holds content or names of tenants, removes what is
// asked for, and says in counts what that was. A place may be asked again for what it has removed already: then it finds nothing.
export interface ErasureScope {
  readonly tenant: string;
  /** All that the tenant has, its keys and itself. */
  readonly whole: boolean;
  /** Of KV. */
  readonly model?: string | undefined;
  readonly salt?: string | undefined;
  /** Of the keys of tensors. */
  readonly prefix?: string | undefined;
}

export type Counts = Readonly<Record<string, number>>;

export interface Place {
  readonly name: string;
  /** Nothing of it is left there when it resolves. */
  erase(scope: ErasureScope): Promise<Counts>;
}

/** What the keys of tensors begin with; undefined where no tensors are meant. */
export const tensorsOf = ({ whole, prefix }: ErasureScope): string | undefined => (whole ? '' : prefix);

/** Whether KV is meant. */
export const isOfKv = ({ whole, model, salt }: ErasureScope): boolean =>
  whole || model !== undefined || salt !== undefined;

export function added(all: Counts, more: Counts): Counts {
  const sum: Record<string, number> = { ...all };
  for (const [name, count] of Object.entries(more)) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}
