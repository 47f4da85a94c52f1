// The surroundings of the command line, kept in memory: it asks the server it is given, and what it prints is to be read.
import { PassThrough, Readable } from 'node:stream';
import type { Blatam } from './blatam.ts';

export function commandIo({ edge, dataDir }: Pick<Blatam, 'edge' | 'dataDir'>) {
  const [out, err] = [new PassThrough(), [] as string[]];
  return {
    env: { BLATAM_URL: edge, DATA_DIR: dataDir },
    stdin: Readable.from([]),
    stdout: out,
    stderr: { write: (line: string) => err.push(line) },
    signal: new AbortController().signal,
    out: () => String(out.read() ?? ''),
    err: () => err.join(''),
  };
}
