// `blatam upgrade`, `blatam backup restore --data`: what is done to a data folder whose server does not run. That is the core's work, which the command line may
// not load: it is started as a process of its own, on the same terminal, and its exit code is ours.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const PROGRAMS: Readonly<Record<string, URL>> = {
  backup: new URL('../core/backups/main.ts', import.meta.url),
  upgrade: new URL('../core/upgrade/main.ts', import.meta.url),
};

/** Whether it is all that a command does; the others are asked for by an option. */
export const isOffline = (name: string | undefined): name is string => name === 'upgrade';

/** An interrupt reaches it as it reaches us, from the terminal. */
export async function runOffline(
  name: string,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const program = PROGRAMS[name];
  if (!program) throw new Error(`there is no program for ${name}`);
  const child = spawn(process.execPath, [fileURLToPath(program), ...args], { stdio: 'inherit', env });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  });
}
