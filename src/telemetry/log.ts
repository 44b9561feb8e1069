import { printable } from '../errors/printable.ts';

/** How bad, or how detailed, a line is: a person must act, it is tried again, state changed, why. */
export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

/** What a line says besides its event; `undefined` members are left out. */
export type LogFields = Readonly<
  Record<string, string | number | bigint | boolean | readonly string[] | undefined>
>;

/** Writes lines `time level event name=value …`; the event is a fixed sentence, the fields vary. */
export interface Logger {
  error(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  debug(event: string, fields?: LogFields): void;
}

const severity: Readonly<Record<LogLevel, number>> = { error: 0, warn: 1, info: 2, debug: 3 };

/** A logger that hands each line of the given level or worse, with its newline, to `write`. */
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

/** Values with blanks, quotes or control characters are written as JSON text, so that a line stays a line. */
function formatValue(value: string): string {
  const isPlain = /^[^\s"\\]+$/.test(value) && printable(value) === value;
  return isPlain ? value : printable(JSON.stringify(value));
}
