// Settings that edge and core both read, and mean the same by. Pure: declarations only.
import { integer, optionalText, secret, setting, text } from './settings.ts';

export const sharedSettings = {
  HOST: setting(text, '127.0.0.1', 'address that edge and core listen on'),
  BODY_BYTES_MAX: setting(integer(1024, 2 ** 40), String(512 * 2 ** 20), 'largest request body'),
  NONCES_MAX: setting(
    integer(1000, 16_000_000),
    '1000000',
    'nonces remembered for 330 s; requests beyond are refused, of one key beyond eight ninths',
  ),
  INTERNAL_SECRET: setting(
    secret(32),
    '',
    'base64, the same for a core and the edges on other machines; unset: a core takes calls from no such edge',
  ),
  METRICS_TOKEN: setting(optionalText, '', 'bearer token for /metrics where HOST is not loopback'),
} as const;
