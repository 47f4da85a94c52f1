// Attention as it is planned and run, on the software adapter from npm.
import { testAttentionOn } from './attention-suite.ts';

await testAttentionOn('swiftshader');
