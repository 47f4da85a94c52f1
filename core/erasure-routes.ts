// The routes of erasures: asked for, looked up, and the key that their receipts are signed with. Whoever may do all with the cache
// may have erased what is its own, as far as its key is not restricted; another tenant's, or all of a tenant, only an operator.
import type { Hono } from 'hono';
import { type ErasureAnswer, erasureBodySchema, erasureQuerySchema, type ReceiptKey } from './contract/erasure.ts';
import { isOperator, OPERATOR_SCOPE } from './contract/keys.ts';
import { parseBody, parseQuery } from './contract/messages.ts';
import { problem } from './contract/problems.ts';
import type { Caller } from './contract/signatures.ts';
import type { Erasures, Found } from './erasure/erasures.ts';
import { type ErasureScope, isOfKv, tensorsOf } from './erasure/scope.ts';
import { allow, allowModel, allowName, type C, type CoreEnv, jsonBody } from './route.ts';

export function addErasureRoutes(app: Hono<CoreEnv>, erasures: Erasures, key: ReceiptKey): void {
  app.post('/v1/erasures', async (c) => {
    const caller = allow(c, 'cache:admin', 'erase');
    const { wait } = parseQuery(erasureQuerySchema, new URL(c.req.url).searchParams);
    const { tenant = caller.tenant, model, salt, prefix } = parseBody(erasureBodySchema, await jsonBody(c));
    const whole = (model ?? salt ?? prefix) === undefined;
    if (whole || tenant !== caller.tenant) assertOperator(caller, whole);
    const scope: ErasureScope = { tenant, whole, model, salt, prefix };
    assertWithin(c, scope);
    c.set('act', undefined); // it writes its own lines
    const { id, done } = await erasures.begin(scope, caller.keyid);
    const location = { location: `/v1/erasures/${id}` };
    if (!wait) return c.json({ id, state: 'running' } satisfies ErasureAnswer, 202, location);
    return c.json({ id, state: 'done', signed: await done } satisfies ErasureAnswer, 201, location);
  });
  app.get('/v1/erasures/key', (c) => {
    allow(c, 'cache:admin', 'erasures');
    return c.json(key);
  });
  app.get('/v1/erasures/:id', async (c) => {
    const caller = allow(c, 'cache:admin', 'erasures');
    const found = await erasures.find(c.req.param('id'));
    if (!found || !mayRead(caller, found))
      throw problem('erasure_unknown', 'There is no erasure of this id, or it is another tenant’s.');
    const { id, state, why, signed } = found;
    return c.json({ id, state, ...(why && { why }), ...(signed && { signed }) } satisfies ErasureAnswer);
  });
}

function assertOperator(caller: Caller, whole: boolean): void {
  if (isOperator(caller)) return;
  const what = whole ? 'All of a tenant' : 'What another tenant has';
  throw problem('scope_missing', `${what} is erased by an operator only; the key ${caller.keyid} is none.`, {
    scope: OPERATOR_SCOPE,
  });
}

/** What a key is restricted to is all that it erases. */
function assertWithin(c: C, scope: ErasureScope): void {
  const prefix = tensorsOf(scope);
  if (prefix !== undefined) allowName(c, prefix);
  if (isOfKv(scope)) allowModel(c, scope.model);
}

const mayRead = (caller: Caller, found: Found): boolean => found.tenant === caller.tenant || isOperator(caller);
