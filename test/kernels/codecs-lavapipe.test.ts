// The record codecs on Mesa's software adapter: where the system has it.
import { RECORD_NAMES } from '../../shaders/records.ts';
import { testCodecsOn } from './codec-suite.ts';

await testCodecsOn('lavapipe', { alone: ['tcq4'], encodedAtAll: ['tcq4f'], decodedAtAll: RECORD_NAMES });
