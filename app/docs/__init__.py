"""The API's documents: `/docs` for people, `/docs.openapi` for programs, `/llms.txt` for language models.

All are made from one OpenAPI document, which is made from the routes themselves (`openapi.describe`). What routes
cannot say about themselves, titles, explanations and examples, stands in tables here; tests hold both together.
"""
