interface Flight {
  readonly answer: Promise<unknown>;
  /** The question asked anew, for those who asked since it was sent. */
  next: Promise<unknown> | undefined;
}

/**
 * Sends no question twice at a time, however many ask it and however long the answer takes. Who asks while it is
 * under way gets the answer of the next time, together with all others who do: what is under way may have been
 * answered before that happened which he wants to know of.
 */
export class SharedRequests {
  readonly #flights = new Map<string, Flight>();

  /** An answer that was begun after this call. `what` names the question. */
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
