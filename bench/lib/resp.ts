// Redis' protocol (RESP2) for wire.ts: SET and GET of one binary value, which is sent and counted as HTTP's bodies are.
import type { Dialect } from './wire.ts';

/** The first line of an answer: `+OK`, `-ERR …`, or the length of a value, -1 where there is none. */
export const respDialect: Dialect<string> = {
  headEnd: '\r\n',
  parseHead(line) {
    const isValue = line.startsWith('$') && line !== '$-1';
    if (!isValue && !/^[+$-]/.test(line)) throw new Error(`this is no answer to SET or GET: ${line.slice(0, 100)}`);
    const bodyBytes = isValue ? Number(line.slice(1)) : 0;
    return { head: line, bodyBytes, afterBytes: isValue ? 2 : 0, fault: false };
  },
};

export const getCommand = (key: string): Uint8Array[] => [
  Buffer.from(`*2\r\n$3\r\nGET\r\n$${key.length}\r\n${key}\r\n`),
];

const LINE_END = Buffer.from('\r\n');
export const setCommand = (key: string, value: Uint8Array): Uint8Array[] => [
  Buffer.from(`*3\r\n$3\r\nSET\r\n$${key.length}\r\n${key}\r\n$${value.length}\r\n`),
  value,
  LINE_END,
];
