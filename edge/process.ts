// The life of a process that is an edge and nothing else, on runtimes other than Node: settings are read from the
// environment, a wrong one stops the start with a line that names it, and SIGTERM or Ctrl-C lets what runs finish, for 6 s
// at most. What the runtime does in its own way (listen, hear signals, exit) is handed in.
import { webCrypto } from '../core/contract/crypto-web.ts';
import { metricsGuard } from '../core/contract/metrics-guard.ts';
import { type Environment, refuseUnknown } from '../core/contract/settings.ts';
import { createAccessLog } from './access-log.ts';
import { edgeSettings, readEdgeConfig } from './config.ts';
import { edgeElsewhere } from './elsewhere.ts';
import { createEdgeMetrics } from './metrics.ts';

const DRAIN_MS_MAX = 6_000;

/** The address is that of the connection. */
export type Answer = (request: Request, address: string | undefined) => Response | Promise<Response>;

export interface Runtime {
  readonly environment: Environment;
  listen(answer: Answer, at: { hostname: string; port: number }): Listening;
  /** On standard output; holds nobody, and resolves when it is out. */
  write(text: string): Promise<unknown>;
  onSignal(name: 'SIGTERM' | 'SIGINT', heard: () => void): void;
  exit(code: number): void;
}

export interface Listening {
  readonly port: number;
  /** Takes no more work; resolves once what runs has finished. */
  close(): Promise<unknown>;
}

export function runEdge(runtime: Runtime): void {
  try {
    start(runtime);
  } catch (error) {
    console.error(`cannot start: ${error instanceof Error ? error.message : String(error)}`);
    runtime.exit(1);
  }
}

function start({ environment, listen, write, onSignal, exit }: Runtime): void {
  refuseUnknown(Object.keys(edgeSettings), environment);
  const config = readEdgeConfig(environment);
  const accessLog = config.ACCESS_LOG === 'on' ? createAccessLog(write, Date.now) : undefined;
  const { edge, close } = edgeElsewhere({
    config,
    crypto: webCrypto,
    metricsOf: (hotKeys) => createEdgeMetrics(hotKeys, accessLog),
    accessLog,
    lasts: true,
    mayReadMetrics: metricsGuard(config.HOST, config.METRICS_TOKEN),
    addressOf: ({ env }) => env.address as string | undefined,
    goOn: () => {},
    log,
  });
  const listening = listen((request, address) => edge.fetch(request, { address }), {
    hostname: config.HOST,
    port: config.EDGE_PORT,
  });
  log(`edge on http://${config.HOST}:${listening.port}, before ${config.CORE_URLS.join(' ')}`);
  let stopping = false;
  const stop = async () => {
    if (stopping) return;
    stopping = true;
    const ended = listening.close().then(close);
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, DRAIN_MS_MAX))]);
    await accessLog?.close();
    exit(0);
  };
  for (const name of ['SIGTERM', 'SIGINT'] as const) onSignal(name, () => void stop());
}

const log = (line: string): void => console.log(`${new Date().toISOString().slice(11, 23)} ${line}`);
