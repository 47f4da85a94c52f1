// What ran where: the commit, the machine and how busy it was, so that a number can be judged later.
import { execFileSync } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { arch, availableParallelism, cpus, loadavg, platform, release, tmpdir, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const TMPFS = 0x0102_1994;

export const describeMachine = () => ({
  cpu: cpus()[0]?.model.trim() ?? 'unknown',
  cores: availableParallelism(),
  memoryGiB: Number((totalmem() / 2 ** 30).toFixed(1)),
  platform: `${platform()} ${release()} ${arch()}`,
  node: process.version,
});

/** Tasks that wanted a core over the last minute: above zero before the start, someone else was measured too. */
export const loadOfLastMinute = (): number => Number((loadavg()[0] ?? 0).toFixed(2));

/** Null where there is no git, no repository or no commit. Results are left out of what makes a tree dirty. */
export const describeCommit = () => {
  const status = git('status', '--porcelain', '--', '.', ':(exclude)bench/results');
  return { commit: git('rev-parse', '--verify', 'HEAD'), dirty: status === null ? null : status !== '' };
};

/** Where fsync has nothing to do, what is "durable" costs nothing. */
export const temporaryFolderIsMemory = (): boolean => statfsSync(tmpdir()).type === TMPFS;

function git(...words: string[]): string | null {
  try {
    return execFileSync('git', words, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return null;
  }
}
