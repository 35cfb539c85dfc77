"""The API's documents: `/docs` for people, `/docs.openapi` for programs, `/llms.txt` for language models.

All are made from one OpenAPI document, which is made from the routes themselves (`openapi.describe`). What a
route or schema can say about itself stands there.
"""
