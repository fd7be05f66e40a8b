"""What the agent's search engine found, on two days: the results of the older day are shorter."""

from __future__ import annotations

OLDER = {
    "Olivia Wilde boyfriend": (
        "In January 2021, Wilde began dating singer Harry Styles after meeting during the filming of Don't "
        "Worry Darling. They were seen together at a concert in New York. Filming took place in Los Angeles. "
        "The film was released in September 2022. Wilde directed the film and also acts in it. The two have "
        "kept silent about it in public."
    ),
    "Harry Styles age": "29 years old",
}
NEWER = {
    "Olivia Wilde boyfriend": (
        "In January 2021, Wilde began dating singer Harry Styles after meeting during the filming of Don't "
        "Worry Darling. She is known as well for the part of a doctor in the television series House, which "
        "she played from 2007 to 2012. Don't Worry Darling is a 2022 American psychological thriller film "
        "directed by Wilde from a screenplay by Katie Silberman. The film stars Florence Pugh, Harry Styles, "
        "Wilde, Gemma Chan, KiKi Layne, Nick Kroll and Chris Pine. It follows a housewife in an idealized "
        "company town who begins to suspect that the place hides a sinister secret. It had its world premiere"
        " at the Venice International Film Festival in September 2022 and opened in cinemas in the same "
        "month. It is the second film that she directed, after Booksmart. Principal photography took place in"
        " Los Angeles and Palm Springs. He plays one of the leading parts. The two have kept silent about it "
        "in public. The score was composed by John Powell."
    ),
    "Harry Styles age": (
        "Harry Styles / Age: 29 years (February 1, 1994). He started to sing with three friends from school, "
        "in a band by the name of White Eskimo that won a local contest. Harry Edward Styles is an English "
        "singer, songwriter and actor. His musical career began in 2010 as a contestant on the British "
        "television series The X Factor. He was put together with four others to form One Direction, which "
        "became one of the best-selling groups of all time. He grew up in Holmes Chapel, a village in "
        "Cheshire. He made his debut as an actor in Dunkirk in 2017. His third album, Harry's House, was "
        "released in May 2022. He was born in Redditch, England. His first single as a solo artist came out "
        "in April 2017. He has received three Grammy Awards."
    ),
}
