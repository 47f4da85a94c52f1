// Judges metrics as Prometheus would read them (text format 0.0.4): every family has its help and its type once, before its samples and
// beside nothing else; no sample comes twice; counters end in _total; the buckets of a histogram grow up to its count.
import assert from 'node:assert/strict';

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|NaN|[+-]Inf|Nan)$/;
const LABELS = /^(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*"(?:,|$))*$/;

/** Throws at the first line that is wrong; answers how many samples each family has. */
export function judgeExposition(text: string): Map<string, number> {
  assert.ok(text.endsWith('\n'), 'the last line ends');
  const families = new Map<string, number>();
  const seen = new Set<string>();
  let family = '';
  let type = '';
  let buckets: { series: string; count: number } | undefined;
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [, help] = /^# HELP (\S+) \S/.exec(line) ?? [];
    const [, typed, what = ''] = /^# TYPE (\S+) (counter|gauge|histogram|summary)$/.exec(line) ?? [];
    if (help !== undefined) {
      assert.ok(!families.has(help), `${help} comes once`);
      families.set(help, 0);
      family = help;
      type = '';
      continue;
    }
    if (typed !== undefined) {
      assert.deepEqual([typed, type], [family, ''], `the type of ${typed} follows its help`);
      type = what;
      if (type === 'counter') assert.match(family, /_total$/);
      continue;
    }
    const [, name = '', labels = '', value = ''] = SAMPLE.exec(line) ?? assert.fail(`no sample: ${line}`);
    assert.match(labels, LABELS, line);
    assert.ok(type !== '' && sampleNames(family, type).includes(name), `${name} is of ${family}`);
    assert.ok(!seen.has(`${name}{${labels}}`), `twice: ${line}`);
    seen.add(`${name}{${labels}}`);
    families.set(family, (families.get(family) ?? 0) + 1);
    if (type !== 'histogram') continue;
    const series = labels.replace(/le="[^"]*",?/, '').replace(/,$/, '');
    if (name.endsWith('_bucket')) {
      if (buckets?.series === series) assert.ok(Number(value) >= buckets.count, line);
      buckets = { series, count: Number(value) };
    } else if (name.endsWith('_count')) {
      assert.deepEqual(buckets, { series, count: Number(value) }, line);
    }
  }
  return families;
}

const sampleNames = (family: string, type: string): string[] =>
  type === 'histogram'
    ? [`${family}_bucket`, `${family}_sum`, `${family}_count`]
    : type === 'summary'
      ? [family, `${family}_sum`, `${family}_count`]
      : [family];
