// One adapter process and the core's end of it, as pool.ts starts them, for tests that speak to it directly.
import type { TestContext } from 'node:test';
import { candidate } from '../../core/gpu/adapters.ts';
import { type DeviceLink, type LinkOptions, startDevice } from '../../core/gpu/device-link.ts';
import type { Pieces } from '../../core/gpu/pieces.ts';
import { driverFolder, piecesFor, SOURCE, type Transport } from './adapters.ts';

export interface TestLink {
  readonly link: DeviceLink;
  readonly pieces: Pieces;
  readonly lines: string[];
}

/** Closed with its test. */
export async function startLink(
  t: TestContext,
  transport: Transport,
  options: Partial<LinkOptions> = {},
): Promise<TestLink> {
  const pieces = await piecesFor(transport);
  const lines: string[] = [];
  const link = await startDevice({
    candidate: candidate(SOURCE, driverFolder),
    pieces,
    bindings: 1,
    deadlineMs: 20_000,
    environment: process.env,
    log: (line) => lines.push(line),
    signal: new AbortController().signal,
    ...options,
  });
  t.after(() => link.close());
  return { link, pieces, lines };
}
