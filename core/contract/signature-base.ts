// The text that a signature is over (RFC 9421, 2.5): a line for each covered component, then the parameters. What a request
// says twice, not at all, or in characters that could pass for another line is a problem, never a guess. Pure: runs on every
// runtime.
import { problem } from './problems.ts';
import { type Params, serializeParams } from './structured-fields.ts';

/** What a signature can cover. `url` is absolute, or the path and query alone; `get` is that of `Headers`. */
export interface Signable {
  readonly method: string;
  readonly url: string;
  readonly headers: { get(name: string): string | null };
}

const COMPONENTS_MAX = 32;
const FIELD_NAME = /^[a-z0-9!#$%&'*+.^_`|~-]+$/;
const LINE = /^[\t -~]*$/;

/** The text whose HMAC is the signature: a line for each component, then the parameters (RFC 9421, 2.5). */
export function signatureBase(components: readonly string[], params: Params, request: Signable): string {
  return baseOf(components, signatureParams(components, params), request);
}

export function signatureParams(components: readonly string[], params: Params): string {
  return `(${components.map((name) => `"${name}"`).join(' ')})${serializeParams(params)}`;
}

export function baseOf(components: readonly string[], paramsText: string, request: Signable): string {
  if (components.length > COMPONENTS_MAX)
    throw problem(
      'signature_malformed',
      `${components.length} components are covered; at most ${COMPONENTS_MAX} may be.`,
    );
  const target = targetOf(request.url);
  let base = '';
  for (const [index, name] of components.entries()) {
    if (components.indexOf(name) !== index)
      throw problem('signature_malformed', `The component "${name}" is covered twice.`);
    const value = name.startsWith('@') ? derivedComponent(name, target, request) : fieldOf(name, request);
    // A line break in a value would let one component pass for two.
    if (!LINE.test(value))
      throw problem('signature_malformed', `The component "${name}" has characters outside printable ASCII.`);
    base += `"${name}": ${value}\n`;
  }
  return `${base}"@signature-params": ${paramsText}`;
}

function derivedComponent(name: string, target: Target, request: Signable): string {
  switch (name) {
    case '@method':
      return request.method;
    case '@path':
      return target.path;
    case '@query':
      return target.query || '?';
    case '@authority':
      return target.origin === '' ? fieldOf('host', request).toLowerCase() : hostOf(request.url);
    case '@scheme':
      return absolute(name, target).slice(0, target.origin.indexOf(':')).toLowerCase();
    case '@target-uri':
      return absolute(name, target) + target.path + target.query;
    default:
      throw problem('signature_malformed', `The component "${name}" is not supported.`);
  }
}

function fieldOf(name: string, request: Signable): string {
  if (!FIELD_NAME.test(name)) throw problem('signature_malformed', `"${name}" is no component or field in lower case.`);
  const value = request.headers.get(name); // several lines of one name come trimmed and joined by ", "
  if (value === null) throw incomplete([name], `The request has no ${name} field, which the signature says it covers.`);
  return value;
}

interface Target {
  /** Scheme and authority; empty where the URL is a path and query alone. */
  readonly origin: string;
  readonly path: string;
  /** With its question mark; empty where there is neither. */
  readonly query: string;
}

// By slices, not by `URL`: the path that is checked is then to the letter the one that is routed, and it costs less.
function targetOf(url: string): Target {
  const hash = url.indexOf('#');
  const end = hash === -1 ? url.length : hash;
  const question = url.indexOf('?');
  const pathEnd = question === -1 || question > end ? end : question;
  const query = url.slice(pathEnd, end);
  if (url.startsWith('/')) return { origin: '', path: url.slice(0, pathEnd), query };
  const colon = url.indexOf('://');
  if (colon === -1 || colon > pathEnd)
    throw problem(
      'signature_malformed',
      'The URL is neither absolute nor a path, so that nothing of it can be covered.',
    );
  const slash = url.indexOf('/', colon + 3);
  const pathStart = slash === -1 || slash > pathEnd ? pathEnd : slash;
  return { origin: url.slice(0, pathStart), path: url.slice(pathStart, pathEnd) || '/', query };
}

function absolute(name: string, target: Target): string {
  if (target.origin === '') throw problem('signature_malformed', `The component "${name}" needs an absolute URL.`);
  return target.origin;
}

function hostOf(url: string): string {
  const parsed = URL.parse(url); // lower case, without the scheme's own port
  if (parsed === null)
    throw problem('signature_malformed', 'The URL cannot be read, so that its host cannot be covered.');
  return parsed.host;
}

export const incomplete = (missing: readonly string[], detail: string) =>
  problem('signature_incomplete', detail, { missing });
