// The strategy and the objective that a call has chosen, kept for the next start: a small file with both, and with what the settings
// said then. Settings that say something else by now were changed since, and go before it. A file that is not there, or does
// not read, is none; one that cannot be written costs the choice with the next start, and is said in the log.
import { readFile, rename, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { parseJson } from '../contract/json.ts';
import { OBJECTIVES, type PolicyBody, STRATEGIES } from '../contract/policy.ts';
import type { Course } from './course.ts';

const choiceSchema = z.object({ strategy: z.enum(STRATEGIES), objective: z.enum(OBJECTIVES) });
const fileSchema = z.object({ format: z.literal(1), settings: choiceSchema, chosen: choiceSchema });
type Choice = z.infer<typeof choiceSchema>;

export interface CourseFile {
  /** Where to begin. */
  readonly course: Course;
  /** A call has chosen. */
  keep(next: PolicyBody): void;
  /** What was kept is written. */
  close(): Promise<void>;
}

export async function openCourseFile(
  path: string,
  configured: Course,
  log: (line: string) => void,
): Promise<CourseFile> {
  const settings: Choice = { strategy: configured.strategy, objective: configured.objective };
  const found = await readCourse(path);
  const isSame = found?.settings.strategy === settings.strategy && found.settings.objective === settings.objective;
  let chosen: Choice = isSame ? found.chosen : settings;
  let written = Promise.resolve();
  if (isSame && (chosen.strategy !== settings.strategy || chosen.objective !== settings.objective))
    log(`the cache serves by ${chosen.strategy} for ${chosen.objective}, as a call has chosen`);

  async function write(): Promise<void> {
    const text = JSON.stringify({ format: 1, settings, chosen });
    await writeFile(`${path}.new`, text, { mode: 0o600 });
    await rename(`${path}.new`, path);
  }

  return {
    course: { ...configured, ...chosen },
    keep({ strategy = chosen.strategy, objective = chosen.objective }) {
      chosen = { strategy, objective };
      written = written.then(write).catch((error: unknown) => log(`${path} cannot be written: ${String(error)}`));
    },
    close: () => written,
  };
}

async function readCourse(path: string): Promise<z.infer<typeof fileSchema> | undefined> {
  try {
    return fileSchema.safeParse(parseJson(await readFile(path, 'utf8'))).data;
  } catch {
    return undefined;
  }
}
