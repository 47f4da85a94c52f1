// The edge on Deno, before a core elsewhere: `CORE_URLS=… INTERNAL_SECRET=… deno run --allow-net --allow-env edge/deno.ts`.
import { runEdge } from './process.ts';

declare const Deno: {
  readonly env: { toObject(): Record<string, string> };
  serve(
    options: { hostname: string; port: number; onListen: () => void },
    answer: (request: Request, from: { remoteAddr: { hostname: string } }) => Response | Promise<Response>,
  ): { readonly addr: { readonly port: number }; shutdown(): Promise<void> };
  readonly stdout: { readonly writable: WritableStream<Uint8Array> };
  addSignalListener(name: string, heard: () => void): void;
  exit(code: number): void;
};

const stdout = Deno.stdout.writable.getWriter();

runEdge({
  environment: Deno.env.toObject(),
  listen(answer, at) {
    const server = Deno.serve({ ...at, onListen: () => {} }, (request, { remoteAddr }) =>
      answer(request, remoteAddr.hostname),
    );
    return { port: server.addr.port, close: () => server.shutdown() };
  },
  write: (text) => stdout.write(new TextEncoder().encode(text)),
  onSignal: Deno.addSignalListener,
  exit: Deno.exit,
});
