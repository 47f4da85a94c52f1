// A process that upgrades a folder, or goes back, and is killed at a point: `upgrade-child.ts FOLDER POINT [back]`.
import { goBack, upgrade } from '../../../core/upgrade/upgrade.ts';

const [dataDir = '', point = '', back] = process.argv.slice(2);
const options = {
  dataDir,
  ...{ program: 'test', environment: {}, say: () => {} },
  reached(at: string) {
    if (at === point) process.kill(process.pid, 'SIGKILL');
  },
};
await (back ? goBack(options) : upgrade(options));
