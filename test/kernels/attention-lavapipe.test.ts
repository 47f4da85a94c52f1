// Attention as it is planned and run, on Mesa's software adapter, where the system has it.
import { testAttentionOn } from './attention-suite.ts';

await testAttentionOn('lavapipe');
