// All single policies by name. Pure.
import { createArc } from './arc.ts';
import { createGdsf } from './gdsf.ts';
import { createLfu } from './lfu.ts';
import { createLru } from './lru.ts';
import type { CreatePolicy } from './policy.ts';
import { createS3Fifo } from './s3-fifo.ts';
import { createSieve } from './sieve.ts';
import { createClimbingWTinyLfu, createWTinyLfu } from './w-tinylfu.ts';

export const POLICIES = {
  lru: createLru,
  lfu: createLfu,
  arc: createArc,
  sieve: createSieve,
  s3fifo: createS3Fifo,
  wtinylfu: createWTinyLfu,
  'wtinylfu-climber': createClimbingWTinyLfu,
  gdsf: createGdsf,
} satisfies Record<string, CreatePolicy>;

export type PolicyName = keyof typeof POLICIES;
export const POLICY_NAMES = Object.keys(POLICIES) as PolicyName[];
