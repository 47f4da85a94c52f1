// `blatam cache policy`: by which policy tensors leave adapters, what it has found out, and another one from now on.
import { type KvPolicy, policyBodySchema } from '../core/contract/policy.ts';
import { type Call, json, usage } from './cli-call.ts';
import { columns, counted, percent, size } from './cli-words.ts';
import type { PolicyAnswer } from './client.ts';

export async function cachePolicy({ connect, options, io }: Call): Promise<void> {
  const { strategy, objective } = options;
  const isChange = strategy !== undefined || objective !== undefined;
  const asked = policyBodySchema.safeParse({ strategy, objective });
  if (isChange && !asked.success) {
    const [issue] = asked.error.issues;
    throw usage(`--${issue?.path.join('.')}: ${issue?.message}.`);
  }
  const { cache } = await connect();
  const policy = asked.success ? await cache.setPolicy(asked.data) : await cache.policy();
  io.stdout.write(options.json ? json(policy) : policyRows(policy));
}

function policyRows({ strategy, objective, tensors, kv }: PolicyAnswer): string {
  const { pattern, inCharge, experts, changes, parts } = tensors;
  const ratio = (held: number | null): string => (held === null ? '-' : percent(held));
  const told = experts.map(({ name, hitRatio }) => `${name} ${ratio(hitRatio)}`);
  return columns([
    ['strategy', strategy],
    ['objective', objective],
    ['pattern', pattern ?? 'not enough was seen'],
    ['in charge', `${inCharge ?? 'nobody yet'}, after ${counted(changes, 'change')}`],
    ...(told.length > 0 ? [['experts', told.join(', ')]] : []),
    ...parts.map(({ adapter, priority, payloads, bytes, inCharge }) => [
      adapter,
      `priority ${priority}: ${counted(payloads, 'payload')}, ${size(bytes)}, by ${inCharge}`,
    ]),
    ...(kv ? kvRows(kv, ratio) : []),
  ]);
}

function kvRows({ inCharge, changes, hitRatio }: KvPolicy, ratio: (held: number | null) => string): string[][] {
  const { now, half, double } = hitRatio;
  return [
    ['kv', `by ${inCharge ?? 'nobody yet'}, after ${counted(changes, 'change')}`],
    ['kv hits', `${ratio(now)}; in half the room ${ratio(half)}, in twice ${ratio(double)}`],
  ];
}
