"""Phrases known from attacks on models, in English and Spanish, as `injection` reads them.

A blank line ends a phrase; `#` says what follows is about. Each line is a part of the phrase: one of several words, or
with `?` and `x4` at most four of them. A line that starts with `|` goes on with the one before. Folded as texts are
(see `views`): no case, no accents.
"""

PHRASES = """
# what was said before shall not count
ignore|disregard|forget|override|bypass|neglect|discard|do not follow|don t follow|dont follow|stop following
?to|about|all|any|every|each|of|the|these|those|this|that|and|or|prior|previous|earlier x4
previous|prior|above|earlier|preceding|foregoing|original|initial|system|developer|your|all|safety|any
?of|the|your|system|safety|own|initial|previous|prior|and|security|content x3
instructions|instruction|prompts|prompt|rules|directives|guidelines|programming|training|safeguards|policies

ignore|disregard|forget
everything|anything|all|what
?that|you|i|we|was|were|is|have|been x3
above|before|previously|told|said|instructed

ignore|disregard|forget
the|all
instructions|rules|prompt|text|messages
above|before this|you were given|given

# what the operator said shall be told
reveal|show|print|repeat|output|display|tell|give|leak|dump|disclose|expose|recite|what is|what s|what are
?me|us|out|to|exactly|verbatim|the|your|all|of|full|entire|complete|exact|whole|hidden|secret|initial
|original|current x6
system|developer|hidden|secret
prompt|prompts|preprompt

reveal|show|print|repeat|output|display|tell|give|leak|dump|disclose|expose|recite|write|share|send|what is
|what s|what are
?me|us|out|to|exactly|verbatim|all|of|full x4
your
?full|entire|complete|exact|whole|own|current|very x2
initial|original|hidden|secret|system|internal|first|confidential
instructions|rules|guidelines|prompt|directives

# the model shall be another one
you are
now|no longer
?in|a|an|the|my|acting|as|free|from x4
dan|jailbroken|unrestricted|unfiltered|uncensored|evil|bound|developer mode|god mode
|free from|free of

from now on
you are
?now|a|an|the x2
dan|unrestricted|unfiltered|uncensored|evil|free|not bound|no longer

you are now
a|an|the|my
?new|different|helpful|malicious|rogue|evil|hacking x2
ai|assistant|model|chatbot|bot|llm|hacker|attacker|agent

pretend|act|behave|respond|answer
?that|as|though|if|like x3
you
are|were|have|had
?an|a x1
no|not|unrestricted|unfiltered|uncensored|without
?any|bound|by|content|safety|longer|ethical x3
rules|restrictions|limits|limitations|filters|guidelines|ai|restricted

enable|enter|activate|switch to|turn on|go into
?the|your x1
dan|jailbreak|unrestricted
mode

do anything now

# the same in Spanish
ignora|ignore|ignorad|ignoren|olvida|olvide|olviden|descarta|desobedece|desatiende|omite|no sigas
|no obedezcas|no hagas caso de|no hagas caso a|deja de seguir
?de|por|completo|todas|todos|las|los|la|el|tus|sus|cualquier|estas|esas|anteriores|previas x5
instrucciones|instruccion|indicaciones|ordenes|reglas|directrices|normas|prompt|prompts
?que|te|se|han|dado|dieron|de|del|tu|y|reglas|normas x4
anteriores|anterior|previas|previa|precedentes|arriba|sistema|iniciales|originales|seguridad

ignora|olvida|descarta|desobedece|desatiende|no sigas
?todas|todos x1
tus
?anteriores|propias|primeras x1
instrucciones|reglas|directrices|normas

ignora|olvida|descarta
todo
lo
anterior|dicho|previo|que te han dicho|que te dijeron

muestra|muestrame|revela|revelame|dime|ensename|imprime|repite|escribe|dame|comparte|cual es|cuales son
?el|la|los|las|tu|tus|su|texto|contenido|completo|de|del|exacto|palabra|por x6
prompt|mensaje|instrucciones|indicaciones
?de|del|tu x2
sistema|ocultas|secretas|iniciales|internas|ocultos|secreto

ahora
eres|seras|actuas como
?un|una|el|la|ia|asistente|modelo|bot x4
dan|sin restricciones|sin filtros|sin limites|sin reglas|sin censura|libre de

actua|responde|comportate
como
si
no
tuvieras|tuvieses|hubiera
?ninguna|ningun x1
restricciones|restriccion|reglas|limites|filtros|filtro|normas

activa|entra en|habilita
?el x1
modo
dan|jailbreak|sin restricciones
"""
