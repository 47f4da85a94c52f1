// The registry of everything that can go wrong for a caller: one code, one status, one title (RFC 9457).
// Rooms throw `problem(code, detail)`; the one boundary of each server turns it into a document. An error that is no
// Problem is our bug: callers see `internal` and nothing of its text. Pure: runs on every runtime.

const registry = {
  // who is calling
  signature_missing: [401, 'The request is not signed'],
  signature_malformed: [401, 'The signature fields cannot be read'],
  signature_incomplete: [401, 'The signature does not cover what it must'],
  signature_stale: [401, 'The signature is too old or from the future'],
  signature_invalid: [401, 'The signature does not match the request'],
  signature_replayed: [401, 'The nonce was seen before'],
  digest_malformed: [401, 'The content digest cannot be read'],
  digest_mismatch: [401, 'The body does not match its digest'],
  token_invalid: [401, 'The token is not valid'],
  token_expired: [401, 'The token has expired'],
  token_keys_unavailable: [503, 'Tokens cannot be verified'],
  digest_missing: [422, 'The body has no digest'],
  replays_full: [503, 'Too many requests to remember their nonces'],
  metrics_closed: [401, 'The metrics are not open to everybody'],
  scope_missing: [403, 'The key lacks a scope'],
  key_restricted: [403, 'The key is restricted to something else'],
  address_refused: [403, 'The address is not let in'],
  rate_limited: [429, 'Too many requests'],
  grant_exceeded: [403, 'Nobody grants more than they have'],
  // what is asked
  route_unknown: [404, 'No such route'],
  method_unsupported: [405, 'The route has no such method'],
  header_malformed: [400, 'The header fields have two readings'],
  key_malformed: [422, 'The tensor key is malformed'],
  query_malformed: [422, 'The query is malformed'],
  body_malformed: [422, 'The body is malformed'],
  codec_unknown: [422, 'No such codec'],
  body_too_large: [413, 'The body is too large'],
  body_cut: [400, 'The body ended early'],
  media_type_unsupported: [415, 'The media type is not supported'],
  tensor_unknown: [404, 'No such tensor'],
  keyid_unknown: [404, 'No such key to sign with'],
  adapter_unknown: [404, 'No such adapter'],
  // one computation
  claim_lost: [409, 'The claim has ended'],
  computation_failed: [424, 'The computation that was waited for failed'],
  batch_full: [413, 'The answer would be too large'],
  claims_exhausted: [503, 'Too many keys are computed or waited for'],
  // KV of token sequences
  kv_malformed: [422, 'The KV tensors are not what is asked for'],
  kv_unknown: [404, 'The tokens are not held'],
  pin_unknown: [404, 'No such pin'],
  pins_full: [507, 'No more can be pinned'],
  followers_full: [503, 'Too many event streams are open'],
  // backups
  backup_unknown: [404, 'No such backup'],
  backup_empty: [422, 'There is nothing to back up'],
  backup_busy: [409, 'Another backup, check or restore is under way'],
  backup_damaged: [409, 'The backup is damaged'],
  backup_failed: [503, 'The backup could not be made'],
  restoring: [503, 'A backup is being put in place'],
  // erasure
  erasure_busy: [409, 'Another erasure is under way'],
  erasure_unknown: [404, 'No such erasure'],
  // safetensors
  tensors_truncated: [422, 'The safetensors body is shorter than it says'],
  tensors_trailing: [422, 'The safetensors body is longer than it says'],
  tensors_header_too_large: [422, 'The safetensors header is too large'],
  tensors_header_malformed: [422, 'The safetensors header cannot be read'],
  tensors_name_duplicate: [422, 'Two tensors have the same name'],
  tensors_dtype_unknown: [422, 'A tensor has an unknown dtype'],
  tensors_shape_malformed: [422, 'A tensor has a malformed shape'],
  tensors_shape_overflow: [422, 'A tensor is larger than numbers can say'],
  tensors_offsets_malformed: [422, 'A tensor has malformed offsets'],
  tensors_length_mismatch: [422, 'A tensor does not fill its range'],
  tensors_overlap: [422, 'Two tensors overlap'],
  tensors_gap: [422, 'Bytes between tensors belong to none'],
  // what the machine can do
  pieces_exhausted: [503, 'Too many bodies are on their way'],
  adapter_lost: [503, 'The adapter that held the data was lost'],
  adapter_unavailable: [503, 'No adapter is ready'],
  adapter_failed: [500, 'The adapter refused the work'],
  adapter_busy: [503, 'Too many requests wait for the adapter'],
  kernel_refused: [500, 'The kernels cannot do this work'],
  capacity_exhausted: [507, 'There is no room for the tensors'],
  quota_exceeded: [507, 'The tenant has what it may have'],
  disk_full: [507, 'The disk is full'],
  disk_failed: [503, 'The disk refused the write'],
  kv_damaged: [500, 'The held KV is damaged'],
  record_damaged: [500, 'The stored tensors are damaged'],
  database_unavailable: [503, 'The database does not answer'],
  deadline_exceeded: [504, 'There was no answer in time'],
  core_unreachable: [502, 'The core does not answer'],
  stopping: [503, 'The server stops'],
  internal: [500, 'Something went wrong on our side'],
} as const satisfies Record<string, readonly [status: number, title: string]>;

export type ProblemCode = keyof typeof registry;

export class Problem extends Error {
  readonly code: ProblemCode;
  readonly status: number;
  readonly extra: Readonly<Record<string, unknown>>;
  constructor(code: ProblemCode, detail: string, extra: Record<string, unknown> = {}, options?: ErrorOptions) {
    super(detail, options);
    this.name = 'Problem';
    this.code = code;
    this.status = registry[code][0];
    this.extra = extra;
  }
}

/** `throw problem('key_malformed', 'what was tried, what was found, what to do')` */
export const problem = (
  code: ProblemCode,
  detail: string,
  extra?: Record<string, unknown>,
  options?: ErrorOptions,
): Problem => new Problem(code, detail, extra, options);

/** Any thrown value as a Problem; what is not one becomes `internal`, with the cause kept for the log. */
export const asProblem = (thrown: unknown): Problem =>
  thrown instanceof Problem
    ? thrown
    : problem('internal', 'The cause is in the log under this requestId.', {}, { cause: thrown });

/** What a caller is told. */
export function problemDocument({ status, code, message, extra }: Problem, requestId: string) {
  const type = `urn:problem-type:blatam:${code}`;
  return { type, title: registry[code][1], status, detail: message, code, requestId, ...extra };
}

/** What a 401 asks for (RFC 9110, 11.6.1): a signature by RFC 9421, or what came instead of one, to be right. */
function challengeOf({ status, code }: Problem): Record<string, string> {
  if (status !== 401) return {};
  const isToken = code.startsWith('token_');
  const scheme = isToken || code === 'metrics_closed' ? 'Bearer' : 'Signature';
  return { 'www-authenticate': `${scheme} realm="blatam"${isToken ? ', error="invalid_token"' : ''}` };
}

/** The answer that a caller sees. */
export function problemResponse(p: Problem, requestId: string): Response {
  const { retryAfterSeconds } = p.extra;
  return new Response(JSON.stringify(problemDocument(p, requestId)), {
    status: p.status,
    headers: {
      'content-type': 'application/problem+json',
      'x-request-id': requestId,
      ...challengeOf(p),
      ...(typeof retryAfterSeconds === 'number' && { 'retry-after': String(retryAfterSeconds) }),
    },
  });
}
