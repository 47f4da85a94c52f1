// Receipts, signed and kept: DATA_DIR/receipts/<id>.json, each whole or not there. The key pair is made at the first start, in
// DATA_DIR/receipt-key.pem, mode 0600; its public half goes with every receipt, and is served.
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { join } from 'node:path';
import {
  canonical,
  type Receipt,
  type ReceiptKey,
  type SignedReceipt,
  signedReceiptSchema,
} from '../contract/erasure.ts';
import { parseJson } from '../contract/json.ts';
import { readOrMake } from '../secrets.ts';
import { readWhole, realDisk, replaceWhole } from '../store/disk.ts';
import type { ErasureScope } from './scope.ts';

export interface Receipts {
  readonly key: ReceiptKey;
  /** Kept when it resolves. */
  add(receipt: Receipt): Promise<SignedReceipt>;
  find(id: string): Promise<SignedReceipt | undefined>;
}

export async function openReceipts(dataDir: string): Promise<Receipts> {
  const { text } = readOrMake(join(dataDir, 'receipt-key.pem'), () =>
    generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
  );
  const secret = createPrivateKey(text);
  const publicKey = createPublicKey(secret).export({ format: 'der', type: 'spki' }).toString('base64');
  const folder = join(dataDir, 'receipts');
  await realDisk.makeFolder(folder);
  const pathOf = (id: string) => join(folder, `${id}.json`);
  return {
    key: { algorithm: 'Ed25519', publicKey },
    async add(receipt) {
      const signature = sign(null, Buffer.from(canonical(receipt)), secret).toString('base64');
      const signed: SignedReceipt = { receipt, algorithm: 'Ed25519', publicKey, signature };
      await replaceWhole(realDisk, pathOf(receipt.id), Buffer.from(`${JSON.stringify(signed, undefined, 2)}\n`));
      return signed;
    },
    async find(id) {
      const bytes = await readWhole(realDisk, pathOf(id));
      return bytes && signedReceiptSchema.safeParse(parseJson(bytes.toString())).data;
    },
  };
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** As a receipt says it. */
export function whatOf({ tenant, whole, model, salt, prefix }: ErasureScope): Receipt['what'] {
  return {
    ...{ tenant, whole },
    ...(model === undefined ? {} : { model }),
    ...(salt === undefined ? {} : { saltSha256: sha256(salt) }),
    ...(prefix === undefined ? {} : { prefixSha256: sha256(prefix) }),
  };
}
