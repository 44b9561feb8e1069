import { printable } from '../errors/printable.ts';

/** Log level. error: user action required; warn: will be retried; info: state change; debug: details. */
export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

/** Fields of a line in addition to its event; `undefined` fields are omitted. */
export type LogFields = Readonly<
  Record<string, string | number | bigint | boolean | readonly string[] | undefined>
>;

/** Writes lines `time level event name=value …`; the event is constant text. */
export interface Logger {
  error(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  debug(event: string, fields?: LogFields): void;
}

const severity: Readonly<Record<LogLevel, number>> = { error: 0, warn: 1, info: 2, debug: 3 };

/** Returns a logger that calls `write` for each line of the given level or a more severe one, newline included. */
export function createLogger(options: {
  readonly level: LogLevel;
  readonly write: (line: string) => void;
  readonly now: () => Date;
}): Logger {
  const log = (level: LogLevel) => {
    if (severity[level] > severity[options.level]) return () => undefined;
    return (event: string, fields: LogFields = {}) =>
      options.write(`${options.now().toISOString()} ${level} ${event}${formatFields(fields)}\n`);
  };
  return { error: log('error'), warn: log('warn'), info: log('info'), debug: log('debug') };
}

function formatFields(fields: LogFields): string {
  return Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(
      ([name, value]) =>
        ` ${name}=${formatValue(Array.isArray(value) ? value.join(',') : String(value))}`,
    )
    .join('');
}

/** Writes values with spaces, quotes or control characters as JSON strings, to keep one line per event. */
function formatValue(value: string): string {
  const isPlain = /^[^\s"\\]+$/.test(value) && printable(value) === value;
  return isPlain ? value : printable(JSON.stringify(value));
}
