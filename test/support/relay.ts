// A line between an edge and a core that can be cut and mended: connections are passed on byte by byte; while it is cut, those
// there were are gone and new ones are refused.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export interface Relay {
  readonly url: string;
  /** Connections that are passed on at this moment. */
  readonly open: () => number;
  cut(): Promise<void>;
  mend(): Promise<void>;
}

export async function startRelay(target: string): Promise<Relay> {
  const { hostname, port: targetPort } = new URL(target);
  const sockets = new Set<Socket>();
  let server: Server | undefined;
  let port = 0;

  function keep(socket: Socket): void {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
  }

  function passOn(near: Socket): void {
    const far = connect({ host: hostname, port: Number(targetPort), allowHalfOpen: true });
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      keep(from);
      from.pipe(to);
      // What was cut is cut on the other side too, not ended.
      from.on('close', () => (from.errored || !from.readableEnded ? to.destroy() : undefined));
    }
  }

  async function mend(): Promise<void> {
    server = createServer({ allowHalfOpen: true }, passOn).listen(port, '127.0.0.1');
    await once(server, 'listening');
    port = (server.address() as AddressInfo).port;
  }

  await mend();
  return {
    url: `http://127.0.0.1:${port}`,
    open: () => sockets.size / 2,
    mend,
    async cut() {
      if (!server?.listening) return;
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
