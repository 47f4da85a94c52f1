// Settings that have other names now. A file of settings (`NAME=value` lines, as systemd and `node --env-file` read them) is
// rewritten with its comments and its order; of those that stand elsewhere it is only said what to change. Pure.

/** Old name to new. An entry stays as long as somebody may come from the version that had the old name. */
export const RENAMED: Readonly<Record<string, string>> = {};

const LINE = /^(\s*(?:export\s+)?)([A-Za-z_][A-Za-z0-9_]*)(\s*=)(.*)$/;

type Names = Readonly<Record<string, string>>;

const newNameOf = (name: string, renamed: Names): string | undefined =>
  Object.hasOwn(renamed, name) ? renamed[name] : undefined;

/** The file as this version reads it, and what was changed. */
export function rewriteSettings(text: string, renamed: Names = RENAMED): { text: string; changes: string[] } {
  const changes: string[] = [];
  const lines = text.split('\n').map((line) => {
    const [, indent = '', name = '', equals = '', value = ''] = LINE.exec(line) ?? [];
    const next = newNameOf(name, renamed);
    if (next === undefined) return line;
    changes.push(`${name} is ${next} now`);
    return `${indent}${next}${equals}${value}`;
  });
  return { text: lines.join('\n'), changes };
}

/** What such a file sets. */
export function readSettingsFile(text: string): Record<string, string> {
  const values: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const [, , name, , value = ''] = LINE.exec(line) ?? [];
    if (name !== undefined) values[name] = value.trim().replace(/^(["'])(.*)\1$/, '$2');
  }
  return values;
}

/** Names of an environment that are to be changed by whoever has set them. */
export function outdatedNames(environment: Readonly<Record<string, string | undefined>>, renamed: Names = RENAMED) {
  return Object.keys(environment).flatMap((name) => {
    const next = newNameOf(name, renamed);
    return next === undefined ? [] : [`${name} is ${next} now: change it where it is set`];
  });
}

export function withNewNames(
  environment: Readonly<Record<string, string | undefined>>,
  renamed: Names = RENAMED,
): Record<string, string | undefined> {
  return Object.fromEntries(
    Object.entries(environment).map(([name, value]) => [newNameOf(name, renamed) ?? name, value]),
  );
}
