// A program that opens the database below the folder it is given, adds one audit entry, says so and stays, to be killed.
import { appendAudit } from '../../db/audit.ts';
import { openDatabase } from '../../db/client.ts';

const [, , dataDir = ''] = process.argv;
const { query } = await openDatabase({ dataDir, log: (line) => console.error(line) });
await appendAudit(query, { actor: 'holder', action: 'hold', subject: dataDir });
console.log('holding');
