// The record codecs on Mesa's software adapter, where the system has it: what reaches out of its range, reaches out.
import { testCodecsOn } from './codec-suite.ts';

await testCodecsOn('lavapipe', {
  robustness: false,
  alone: ['tcq4'],
  encodedAtAll: ['tcq4f'],
  decodedAtAll: ['f32', 'bf16', 'tq4', 'tcq3', 'tcq2', 'tcq4e'],
});
