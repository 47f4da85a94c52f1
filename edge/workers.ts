// The edge on Cloudflare Workers, before a core elsewhere: settings are the Worker's bindings (wrangler.toml), read once
// for each isolate at its first request. A setting that is wrong answers every request with a 500 that names it.
// Nonces are remembered by isolate: the network runs many of them, so a copied request is refused by the isolate that saw
// the first one, not yet by all. Metrics are not kept: there is no process to scrape, and counters that come from whichever
// isolate answers cannot be added up; the core has its own, and Cloudflare shows a Worker's requests and errors.
import { webCrypto } from '../core/contract/crypto-web.ts';
import { problem, problemResponse } from '../core/contract/problems.ts';
import { refuseUnknown, SettingsError } from '../core/contract/settings.ts';
import { type AccessLog, lineOf } from './access-log.ts';
import type { EdgeMetrics } from './app.ts';
import { edgeSettings, readEdgeConfig } from './config.ts';
import { edgeElsewhere } from './elsewhere.ts';

type Bindings = Readonly<Record<string, unknown>>;
/** What Cloudflare hands in beside: work that may end after its request. */
interface Life {
  waitUntil(work: Promise<unknown>): void;
}
type Answer = (request: Request, life: Life) => Response | Promise<Response>;

const log = (line: string): void => console.log(line);
const answers = new WeakMap<Bindings, Answer>();

export default {
  fetch(request: Request, bindings: Bindings, life: Life): Response | Promise<Response> {
    const answer = answers.get(bindings) ?? compose(bindings);
    answers.set(bindings, answer);
    return answer(request, life);
  },
};

function compose(bindings: Bindings): Answer {
  try {
    const { edge } = openEdge(bindings);
    return (request, life) => edge.fetch(request, {}, { ...NO_LIFE, waitUntil: (work) => life.waitUntil(work) });
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    return refuse(error);
  }
}

function openEdge(bindings: Bindings) {
  const environment = textsOf(bindings);
  refuseUnknown(Object.keys(edgeSettings), environment);
  const config = readEdgeConfig(environment);
  return edgeElsewhere({
    config,
    crypto: webCrypto,
    fetch: fetchUncached,
    // Cloudflare sets it, whatever the caller says.
    addressOf: (c) => c.req.header('cf-connecting-ip'),
    goOn: (c, work) => c.executionCtx.waitUntil(work),
    metricsOf: () => noMetrics,
    accessLog: config.ACCESS_LOG === 'on' ? onConsole : undefined,
    lasts: false,
    mayReadMetrics: () => true,
    log,
  });
}

/** What Hono asks of it beside, and nothing here uses. */
const NO_LIFE = { passThroughOnException: () => {}, props: {} };

/** Variables and secrets. wrangler makes a number of an unquoted one; all else that is bound is no setting. */
function textsOf(bindings: Bindings): Record<string, string> {
  const simple = Object.entries(bindings).filter(([, value]) => ['string', 'number', 'boolean'].includes(typeof value));
  return Object.fromEntries(simple.map(([name, value]) => [name, String(value)]));
}

/** The answer to every request while a setting is wrong. What is set shows in the log alone, and no secret there either. */
function refuse({ message }: SettingsError): Answer {
  const [named = ''] = message.split('=', 1);
  const detail = `A setting of this Worker is missing or malformed: ${named}. Its log says what would be right.`;
  return ({ method }) => {
    const requestId = crypto.randomUUID();
    log(`${requestId} cannot start: ${message}`);
    const answer = problemResponse(problem('internal', detail), requestId);
    return method === 'HEAD' ? new Response(null, answer) : answer;
  };
}

/** Cloudflare would keep an answer by its URL alone (for a key that ends in .jpg, say), whoever asks. */
const fetchUncached: typeof fetch = (input, init) => fetch(input, { ...init, cache: 'no-store' });

const noMetrics: EdgeMetrics = {
  contentType: 'text/plain',
  ended: () => {},
  refused: () => {},
  text: async () => {
    throw problem('route_unknown', "An edge on Workers keeps no metrics; read the core's, and Cloudflare's own.");
  },
};

/** Cloudflare takes lines as they come, and drops what is too much itself. */
const onConsole: AccessLog = {
  note: (line) => log(lineOf(line, Date.now()).trimEnd()),
  dropped: 0,
  close: async () => {},
};
