// Whether the core can do its work, part by part, each with a reason.

export interface Check {
  readonly ok: boolean;
  readonly detail: string;
}
export interface ReadinessReport {
  readonly ready: boolean;
  readonly checks: Readonly<Record<string, Check>>;
}
export type Readiness = () => Promise<ReadinessReport>;

export function createReadiness(checks: Readonly<Record<string, () => Check | Promise<Check>>>): Readiness {
  return async () => {
    const results = await Promise.all(
      Object.entries(checks).map(async ([name, check]) => {
        try {
          return [name, await check()] as const;
        } catch (error) {
          return [name, { ok: false, detail: error instanceof Error ? error.message : String(error) }] as const;
        }
      }),
    );
    return { ready: results.every(([, { ok }]) => ok), checks: Object.fromEntries(results) };
  };
}
