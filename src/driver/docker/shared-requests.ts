interface Flight {
  readonly answer: Promise<unknown>;
  /** The next request, for callers that came since this one was sent. */
  next: Promise<unknown> | undefined;
}

/**
 * Sends a request at most once at a time, whatever the number of callers and the response time. Callers during a
 * pending request share the response of the next one: the pending one may have been evaluated before the change that
 * they want to see.
 */
export class SharedRequests {
  readonly #flights = new Map<string, Flight>();

  /** Returns a response to a request that was sent after this call. `what` identifies the request. */
  ask(what: string, send: () => Promise<unknown>): Promise<unknown> {
    const flight = this.#flights.get(what);
    if (flight === undefined) return this.#begin(what, send);
    const again = () => this.#begin(what, send);
    flight.next ??= flight.answer.then(again, again);
    return flight.next;
  }

  #begin(what: string, send: () => Promise<unknown>): Promise<unknown> {
    const flight: Flight = { answer: send(), next: undefined };
    this.#flights.set(what, flight);
    const end = () => {
      if (flight.next === undefined) this.#flights.delete(what);
    };
    flight.answer.then(end, end);
    return flight.answer;
  }
}
