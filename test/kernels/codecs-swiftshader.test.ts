// The record codecs on the software adapter that comes from npm.
import { testCodecsOn } from './codec-suite.ts';

await testCodecsOn('swiftshader', {
  robustness: true,
  alone: ['tcq3', 'tcq2', 'tcq4e', 'tcq3e'],
  encodedAtAll: ['tcq2f'],
  decodedAtAll: ['f16', 'q8r', 'tcq4', 'tcq3e'],
});
