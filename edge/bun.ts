// The edge on Bun, before a core elsewhere: `CORE_URLS=… INTERNAL_SECRET=… bun edge/bun.ts`.
import { runEdge } from './process.ts';

interface BunServer {
  readonly port: number;
  stop(): Promise<void>;
  requestIP(request: Request): { readonly address: string } | null;
}
declare const Bun: {
  readonly env: Readonly<Record<string, string>>;
  serve(options: {
    fetch: (request: Request, server: BunServer) => Response | Promise<Response>;
    hostname: string;
    port: number;
    /** Seconds; 0 is none: an answer may be a wait, and events come when they come. */
    idleTimeout: number;
    maxRequestBodySize: number;
  }): BunServer;
};

// Whoever read our output may leave; that is no reason to end.
process.stdout.on('error', () => {});

runEdge({
  environment: Bun.env,
  listen(answer, at) {
    const server = Bun.serve({
      ...at,
      fetch: (request, own) => answer(request, own.requestIP(request)?.address),
      idleTimeout: 0,
      // The edge itself judges what a body announces; one of unannounced length, the core that counts it.
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    });
    return { port: server.port, close: () => server.stop() };
  },
  write: (text) => new Promise<void>((resolve) => process.stdout.write(text, () => resolve())),
  onSignal: (name, heard) => process.on(name, heard),
  exit: (code) => process.exit(code),
});
